/* The files that device vendors write (spec/cdi.h), and which of their devices a container wants. */
#ifndef KNARR_POD_CDI_FILES_H
#define KNARR_POD_CDI_FILES_H

#include "spec/cdi.h"

/* Reads the *.json and *.yaml of the folders anew (a vendor's service may have written one a moment ago) and finds the
 * edits that the devices "vendor.com/class=name" stand for, in order: a file's own once, before those of its first device.
 * A later folder's device replaces an earlier one's of that name. Device nodes that leave it to the host are looked up there.
 * Everything is the arena's. Blocks on the disk.
 *
 * ERR_NOT_FOUND: no file has the device (files that could not be read are named then), or the host has no such node;
 * ERR_INVALID: two files of one folder have it, the name is none. A bad file is nobody's trouble but of who wants its
 * devices. */
int cdi_files_find(struct arena *a, char *const *folders, char *const *devices, struct json_vec *edits /* struct cdi_edits */,
		   struct err *e);

/* What a container's annotations "cdi.k8s.io/…" wish beside its list: before CRI had one, device plugins wrote them. */
char **cdi_devices_of(struct arena *a, char *const *listed, const struct json_map *annotations);

#endif
