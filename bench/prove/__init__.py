"""Any order of arrival gives the same store, shown on the real one; and each of ten wrong designs is caught."""
