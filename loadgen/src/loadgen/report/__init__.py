"""What a run leaves behind: the directory of its report, and the files in it."""
