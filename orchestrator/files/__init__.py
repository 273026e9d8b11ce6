"""The files that phases are made from and make: found by pattern, told by their content, which is read only once."""
