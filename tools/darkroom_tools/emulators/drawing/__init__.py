"""How the sandbox draws: shaded shapes, people and clothes, scenes in layers, films."""
