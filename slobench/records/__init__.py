"""What a run recorded, and the files it is kept in."""
