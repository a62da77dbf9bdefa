"""The nodes of the state machine, one file each; every one may run twice without harm."""
