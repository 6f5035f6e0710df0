"""`transcode`: clients and servers that speak JSON or MessagePack understand each other."""

from .layer import Transcode as Transcode
