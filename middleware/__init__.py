"""The layers that remora brings, one file each, named as its key in the file."""
