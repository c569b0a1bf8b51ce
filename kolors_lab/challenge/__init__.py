"""The challenge's whole way: from a raw set to what is handed in, and its checks."""
