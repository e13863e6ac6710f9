"""A checkpoint as Shoal sees it: its configuration, its bytes, and the arithmetic of one Span and its Ends.

``config`` says what the model is, ``source`` where its bytes come from, ``weights`` reads those of a Span, ``cache``
keeps them quantised. ``block``, ``ends`` and ``span_model`` compute. Nothing here knows of peers, Sessions or the
network between them.
"""
