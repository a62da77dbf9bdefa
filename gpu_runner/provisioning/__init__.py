"""Workers on other machines: started, listed, drained and stopped by whatever places processes."""
