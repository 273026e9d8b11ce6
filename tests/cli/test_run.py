from tests.driving import Project


def test_x(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "echo hello", "needs": []})
    e = project.orch("run")
    print(e)
    assert e.code == 0
    print(project.processes())
    project.assert_nothing_left()
