"""Results as files: downloaded, named, shown and copied.

downloads      downloads what jobs made, and asks the provider again where an address has died
filenames      day folders and names, and giving a finished download its name
sidecar        what stands beside each file: where it came from and what it cost
integrity      opening a kept file only if it is really the one that was saved
outputs        what tools use: outputs of jobs, their bytes, previews and copies
decoder        pictures of strangers are decoded in child processes with limits
picture_child  the program of such a process
preview        pictures small enough for a chat (imports Pillow; import it where it is needed)
webm           the first frame of a WebM film
export         copying into allowed folders, and nowhere else
"""
