"""proxy-server: a QUIC server that dials the targets of proxy-client."""
