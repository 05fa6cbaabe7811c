"""Results as files: downloaded, named, shown and copied.

downloads   downloads outputs; asks the provider again if an address has expired
filenames   one folder a day, and the names of the files
sidecar     the JSON file beside each result: where it came from and what it cost
integrity   opens a saved file only if it is still the file that was saved
outputs     what tools use: the outputs of jobs, their bytes, previews and copies
preview     pictures small enough for a chat (imports Pillow; import it where it is needed)
webm        the first frame of a WebM video
export      copies into allowed folders, and nowhere else
"""
