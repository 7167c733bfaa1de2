"""proxy-client: a SOCKS5 listener that carries each connection as one QUIC stream."""
