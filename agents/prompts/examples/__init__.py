"""One honest candidate a language, shown to whoever writes kernels; tests build and check each."""
