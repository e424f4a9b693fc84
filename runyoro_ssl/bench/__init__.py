"""`invoke bench`: what this toolkit does, side by side with what a user would otherwise run, on this machine."""
