"""The heads of each family, shared class by class between teacher and student."""
