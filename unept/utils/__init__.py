"""Small tools that know no model: atomic files, tensors read from files, random state."""
