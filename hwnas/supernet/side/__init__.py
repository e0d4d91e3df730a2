"""Side networks: small networks beside a frozen image encoder, trained without a pass through it.

They read the outputs of chosen blocks and add to what the mask decoder is given. Gradients end at
the features, so training holds what the side network needs and nothing of the encoder's blocks; in
exchange nothing can be merged, and the side network is a part of what is deployed.
"""
