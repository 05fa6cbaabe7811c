"""Results as files: fetched because addresses die, named for people, shown, and copied where wanted.

collect     downloads what jobs made, and asks the provider again where an address has died
naming      day folders and names, and giving a finished download its name
sidecar     what stands beside each file: where it came from and what it cost
kept        opening a kept file only if it is really the one that was saved
shelf       the room's door for tools: outputs of jobs, their bytes, previews and copies
preview     pictures small enough for a chat (imports Pillow; import it where it is needed)
still       the first frame of a WebM film
save        copying into allowed folders, and nowhere else
"""
