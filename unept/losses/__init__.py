"""Training losses: the total of Eq. 7 and a cross-entropy in bands of the full-size map."""
