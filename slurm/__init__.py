"""Where runs happen: in slots of this machine. It knows commands and logs, not what is in a run."""
