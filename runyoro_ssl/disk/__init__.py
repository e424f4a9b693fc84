"""Files and folders that are on the disk whole or not at all, and the one process that may write them."""
