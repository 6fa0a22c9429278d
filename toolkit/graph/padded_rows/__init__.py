"""The graph pass that computes all rows, and masks them, in place of selected ones padded to one length."""
