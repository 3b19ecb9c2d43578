"""What the tunes of a character language model are worth: whether they parse, add up, and are new; a picture of one."""
