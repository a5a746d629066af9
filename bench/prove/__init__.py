"""Any order of arrival gives the same store, shown on the real one; and whatever is planted against that is caught."""
