"""The channel protocol of channel(7), without sockets: both ends, in octets and events."""
