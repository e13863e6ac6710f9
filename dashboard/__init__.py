"""The public dashboard: is the swarm healthy, what is weakest, how fast is it, what will fail next, how do I join?

directory, Peer.Info → board → sightings, picture (pure) → app: JSON, events, the page
"""
