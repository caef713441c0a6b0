"""Cost of a variant: parameters, operations, memory and time, each with the protocol it was taken under."""
