"""Measuring on a GPU: launch plans made concrete, and the processes that own and use a device."""
