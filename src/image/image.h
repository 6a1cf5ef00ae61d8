/* Images: from a name to a mounted root. Content lies in an OCI image layout (skopeo and umoci read
 * it), layers unpacked by diff ID beside it, and the catalog says what exists: an image is there
 * only once all its data is on disk. An image's ID is its configuration's digest, the same text
 * everywhere ("sha256:…").
 *
 * Every function may be called from every thread. Lists come from memory and never wait for a pull. */
#ifndef KNARR_IMAGE_IMAGE_H
#define KNARR_IMAGE_IMAGE_H

#include "base/call.h"
#include "spec/image_config.h"
#include "store/catalog.h"

struct images;

struct image_settings {
	const char *root;          /* "/var/lib/knarr": content/ and layers/ and containers/ lie in it */
	const char *run;           /* "/run/knarr" */
	const char *libexec;       /* where knarr-pull and knarr-unpack are */
	const char *hosts_dir;     /* "/etc/knarr/hosts.d", then "/etc/containerd/certs.d": hosts.toml folders */
	const char *registries_conf; /* "/etc/containers/registries.conf"; NULL: none */
	char *const *certs_dirs;   /* "/etc/containers/certs.d": folders of HOST/{*.crt,*.cert,*.key} */
	char *const *pinned;       /* references that RemoveImage and garbage collection leave */
	int64_t pull_idle_ns;      /* a pull that receives nothing for so long fails */
	unsigned parallel_layers;  /* 0: the default */
	bool volatile_roots;       /* containers' roots are never synced to disk: a reboot ends them anyway */
};

int images_open(const struct image_settings *settings, struct catalog *catalog, struct images **out, struct err *e);
/* Ends what runs (its children too) and undoes what is half done. */
void images_close(struct images *im);

struct image {
	char *id;
	char **tags;               /* "docker.io/library/busybox:latest" */
	char **digests;            /* "docker.io/library/busybox@sha256:…" */
	uint64_t size_bytes;       /* what it takes on disk: unpacked layers and content, shared or not */
	char *user;                /* the configuration's User, as written */
	bool pinned;
	struct json_map labels;
};

struct image_auth {                /* CRI AuthConfig; never logged */
	const char *username, *password, *auth, *server_address, *identity_token, *registry_token;
};

/* Called from the pulling thread about twice a second, and at the end. */
struct image_progress {
	unsigned layers, layers_done;
	uint64_t bytes, bytes_total;
	const char *waits_for;     /* what it does now, in a word or two */
};

struct image_pull_request {
	const char *reference;     /* as the user wrote it */
	const struct image_auth *auth; /* NULL: anonymous */
	void (*progress)(void *ctx, const struct image_progress *p); /* NULL: none */
	void *progress_ctx;
};

/* Pulls, verifies and unpacks. Pulls of the same reference and credentials at the same time are one;
 * the work ends when the last caller has gone. *id lives in the call's arena. A name without a registry is what
 * registries.conf makes of it: of several, the first that can be pulled. */
int image_pull(struct images *im, struct call *c, const struct image_pull_request *r, const char **id, struct err *e);

/* By ID, ID prefix of at least 12 hex digits, tag or digest reference. ERR_NOT_FOUND. */
int image_find(struct images *im, struct arena *a, const char *name, struct image *out, struct err *e);
int image_list(struct images *im, struct arena *a, struct image **out, size_t *n, struct err *e);
/* All names of the ID the name means. ERR_STATE while a container uses it (image_hold). Absent: success. */
int image_remove(struct images *im, struct call *c, const char *name, struct err *e);
/* Takes one name from an image that has others: a tag, and with the last tag of a repository its digests; or one digest.
 * *last: it is the only one, or no name but an ID, or of nothing: nothing was done. ERR_STATE: it is pinned. */
int image_untag(struct images *im, struct call *c, const char *name, bool *last, struct err *e);
/* A name more for an image that is there. */
int image_tag(struct images *im, const char *id, const char *reference, struct err *e);

int image_config_of(struct images *im, struct arena *a, const char *id, struct image_config *out, struct err *e);
/* The same document as it was pulled: JSON, verified. */
int image_config_text(struct images *im, struct arena *a, const char *id, struct str *out, struct err *e);

/* Which documents and layers an image has, as it was pulled. */
struct image_layer {
	char *digest, *diff_id;    /* of the compressed layer, of the uncompressed one */
	uint64_t size;             /* of the blob */
	uint64_t disk_bytes, inodes; /* unpacked */
};
struct image_content {
	struct image image;
	char *manifest, *media_type; /* digest and type of the manifest */
	uint64_t manifest_size, config_size;
	struct image_layer *layers; /* lowest first */
	size_t nlayers;
};
int image_content_of(struct images *im, struct arena *a, const char *name, struct image_content *out, struct err *e);
/* One of its blobs for reading; the caller owns the fd. ERR_NOT_FOUND: no such image, or not a blob of it. */
int image_blob_open(struct images *im, struct arena *a, const char *name, const char *digest, int *fd, struct err *e);

/* A blob in a file that somebody gave: `size` bytes from `offset`. */
struct image_part {
	const char *digest, *media_type;
	int64_t size, offset;
	int fd;                    /* the caller's */
};
struct image_load_request {
	const struct image_part *parts; /* the first is the manifest; the others in any order */
	size_t nparts;
	char *const *names;        /* references, NULL-terminated */
	void (*progress)(void *ctx, const struct image_progress *p);
	void *progress_ctx;
};
/* A pull from files instead of a registry: knarr-pull reads and verifies them, in its sandbox. An image that is there
 * already gets the names. ERR_NOT_FOUND: a blob that the manifest names is not among the parts. */
int image_load(struct images *im, struct call *c, const struct image_load_request *r, const char **id, struct err *e);

struct image_usage {
	char *mount_point;         /* of the file system that holds root */
	uint64_t used_bytes, inodes_used;
	int64_t at_wall_ns;
};
int image_usage_of(struct images *im, struct arena *a, struct image_usage *out, struct err *e);

/* --- a container's root: a writable snapshot over an image's layers ------------------------------- */

/* Makes containers/ID/{upper,work}; the image is held from removal until snapshot_remove. Undo and
 * recovery call snapshot_remove, which is harmless where nothing is: the whole folder, the bundle's files too,
 * gets another name at once and is freed by a thread of its own, after a restart too. */
int snapshot_create(struct images *im, const char *container_id, const char *image_id, struct err *e);
int snapshot_remove(struct images *im, const char *container_id, struct err *e);
/* The overlay as a detached mount (fsopen, fsmount), not visible anywhere; the caller owns the fd. userns_fd: the image's
 * files are owned as that user namespace maps them, without a chown of any; -1: as the image says. */
int snapshot_mount(struct images *im, const char *container_id, int userns_fd, int *mount_fd, struct err *e);
/* An image volume: what the image holds, or the folder `sub_path` in it (resolved as in its root; "" or NULL: all), as a
 * detached mount that is read-only. userns_fd as in snapshot_mount(). ERR_NOT_FOUND: the image, or the sub path. */
int image_mount(struct images *im, const char *image_id, const char *sub_path, int userns_fd, int *mount_fd,
		struct err *e);
/* Holds another image for the container, as its own is held, until snapshot_remove. */
int snapshot_hold(struct images *im, const char *container_id, const char *image_id, struct err *e);
/* What the container wrote: bytes and inodes of upper (a walk, cached for a few seconds). */
int snapshot_usage(struct images *im, const char *container_id, uint64_t *bytes, uint64_t *inodes, struct err *e);

#endif
