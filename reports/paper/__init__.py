"""The paper as data: every quoted figure and the claims that compare them."""
