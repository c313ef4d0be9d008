"""The method on tensors: nothing here knows a domain, a file format or a label."""
