"""The front door: OpenAI's HTTP API and the Open Inference Protocol in front of a swarm. Joins as a client, no weights.

request → schema → wishes (pure: request → Options) → gate → Generation → client.AsyncClient
→ Pieces → a dialect in its envelope (pure: Piece → JSON) → sse → the caller
"""
