"""The front door: OpenAI's HTTP API in front of a swarm. Joins as a client; holds no weights.

request → schema → wishes (pure: request → Options) → gate → Generation → client.AsyncClient
→ Pieces → completions, chats (pure: Piece → JSON) → sse → the caller
"""
