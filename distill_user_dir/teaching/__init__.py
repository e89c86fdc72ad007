"""A student beside its teacher: what its losses need, where its weights start, which clusters it learns."""
