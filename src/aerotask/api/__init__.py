"""The HTTP interface: parses, authorises, calls one service, renders."""
