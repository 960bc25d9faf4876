"""How the drawn birds of `ssl_parts.data.sets.synthetic_birds` are made: species, anatomy, pose,
scene, render.
"""
