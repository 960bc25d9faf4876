"""How the drawn birds of `ssl_parts.data.synthetic_birds` are made: species, anatomy, pose, scene, render."""
