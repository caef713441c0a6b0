"""What a variant costs: parameters, operations, memory and time, each with the protocol it was taken under."""
