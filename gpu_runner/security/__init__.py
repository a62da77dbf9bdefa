"""Who may speak on the job bus: key pairs, the allow-list, the handshake and every message."""
