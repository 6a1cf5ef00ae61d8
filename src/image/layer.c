#include "image/layer.h"

#include "base/fs.h"
#include "base/mem.h"
#include "kernel/mount.h"
#include "spec/digest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct layers {
	int fd; /* layers/ */
	struct shelf shelf;
	struct arena arena; /* owns what follows */
	char **orphans;     /* found at start, to be removed; NULL-terminated */
};

/* The lowest folder, and the beginnings of what is not (or no more) a layer. */
static const char base_name[] = ".base", new_prefix[] = ".new-", old_prefix[] = ".old-";

/* Where containers have mounts whatever the image: what the image lacks of it need not be made in each
 * container's upper folder, and removed again. */
static int make_base(int layers_fd, struct err *e)
{
	static const char *const folders[] = { "dev", "proc", "sys", "etc" };
	static const char *const files[] = { "etc/hostname", "etc/hosts", "etc/resolv.conf" };
	auto_fd int base = -1;

	if (fs_mkdirs(layers_fd, base_name, 0755, e) < 0)
		return -1;
	base = fd_open(layers_fd, base_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (base < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (fs_mkdirs(base, folders[i], 0755, e) < 0)
			return -1;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		auto_fd int file = fd_create(base, files[i], O_WRONLY | O_CREAT | O_NOFOLLOW, 0644, e);

		if (file < 0)
			return -1;
	}
	return 0;
}

int layers_open(int root_fd, struct layers **out, struct err *e)
{
	auto_fd int fd = -1;
	struct layers *ls;

	/* 0700: setuid programs of images are not for the host's users. */
	if (fs_mkdirs(root_fd, "layers", 0700, e) < 0)
		return -1;
	fd = fd_open(root_fd, "layers", O_RDONLY | O_DIRECTORY, e);
	if (fd < 0 || make_base(fd, e) < 0)
		return -1;
	ls = mem_new0(struct layers);
	ls->fd = fd_take(&fd);
	shelf_init(&ls->shelf);
	*out = ls;
	return 0;
}

void layers_close(struct layers *ls)
{
	if (!ls)
		return;
	fd_close(&ls->fd);
	shelf_destroy(&ls->shelf);
	arena_free(&ls->arena);
	mem_free(ls);
}

int layers_add(struct layers *ls, const char *diff_id, uint64_t bytes, uint64_t inodes, uint64_t flags,
	       struct err *e)
{
	struct stat st;

	if (digest_check(diff_id, e) < 0)
		return -1;
	if (fstatat(ls->fd, digest_hex(diff_id), &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return err_set(e, ERR_DATA_LOSS, "layer %s: its folder is gone", diff_id);
	shelf_add(&ls->shelf, diff_id, bytes, inodes, flags);
	return 0;
}

static void unique_name(const char *prefix, const char *diff_id, char out[96])
{
	uint32_t nonce = 0;

	(void)getrandom(&nonce, sizeof(nonce), 0); /* 4 bytes never fail once the machine is up */
	(void)snprintf(out, 96, "%s%.64s-%08x", prefix, digest_hex(diff_id), nonce);
}

/* A folder goes under another name first, so that no half-removed layer ever has a layer's name. */
static int remove_layer(void *ctx, const char *diff_id, struct err *e)
{
	struct layers *ls = ctx;
	char name[96];

	unique_name(old_prefix, diff_id, name);
	if (renameat(ls->fd, digest_hex(diff_id), ls->fd, name) < 0)
		return errno == ENOENT ? 0 : err_sys(e, errno, "rename layer %s", diff_id);
	return fs_remove_tree(ls->fd, name, e);
}

/* 1: nobody needs it; its name is then in `name`. */
static int is_orphan(struct layers *ls, char name[96], struct err *e)
{
	struct shelf_item ignored;
	char diff_id[DIGEST_TEXT_MAX], aside[96];
	int n = snprintf(diff_id, sizeof(diff_id), "sha256:%s", name);

	if (starts_with(name, new_prefix) || starts_with(name, old_prefix))
		return 1;
	if (n < 0 || (size_t)n >= sizeof(diff_id) || !digest_is_valid(diff_id))
		return 0; /* not ours: left alone */
	if (shelf_get(&ls->shelf, diff_id, &ignored))
		return 0;
	unique_name(old_prefix, diff_id, aside);
	if (renameat(ls->fd, name, ls->fd, aside) < 0)
		return err_sys(e, errno, "rename layer %s", diff_id);
	memcpy(name, aside, sizeof(aside));
	return 1;
}

static int find_orphans(struct layers *ls, char *const *names, struct err *e)
{
	for (size_t i = 0; names && names[i]; i++) {
		char name[96];
		int rc;

		if (strlen(names[i]) >= sizeof(name))
			continue;
		(void)snprintf(name, sizeof(name), "%s", names[i]);
		rc = is_orphan(ls, name, e);
		if (rc < 0)
			return -1;
		if (rc > 0)
			ls->orphans = strv_append(&ls->arena, ls->orphans, arena_strdup(&ls->arena, name));
	}
	return 0;
}

int layers_find_orphans(struct layers *ls, struct err *e)
{
	int fd = fd_open(ls->fd, ".", O_RDONLY | O_DIRECTORY, e);
	auto_arena a = { 0 };
	char **names = NULL;
	struct dirent *d;
	DIR *dir;

	if (fd < 0)
		return -1;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(&fd);
		return err_sys(e, errno, "read the layers' folder");
	}
	while ((d = readdir(dir))) /* first all names: what is renamed meanwhile may show twice */
		names = strv_append(&a, names, arena_strdup(&a, d->d_name));
	(void)closedir(dir);
	return find_orphans(ls, names, e);
}

int layers_sweep(struct layers *ls, struct call *c, struct err *e)
{
	struct err first;
	int rc = 0;

	for (size_t i = 0; ls->orphans && ls->orphans[i]; i++) {
		if (call_check(c, e) < 0)
			return -1;
		if (fs_remove_tree_call(c, ls->fd, ls->orphans[i], e) == 0 || rc < 0)
			continue;
		first = *e;
		rc = -1;
	}
	if (rc < 0)
		*e = first;
	return rc;
}

/* --- making ---------------------------------------------------------------------------------------- */

static int make_folder(struct layers *ls, struct layer_work *w, struct err *e)
{
	unique_name(new_prefix, w->diff_id, w->name);
	if (mkdirat(ls->fd, w->name, 0755) < 0)
		return err_sys(e, errno, "make folder for layer %s", w->diff_id);
	w->dir_fd = fd_open(ls->fd, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (w->dir_fd < 0)
		return -1;
	if (fchmod(w->dir_fd, 0755) < 0) /* whatever the umask */
		return err_sys(e, errno, "%s", w->name);
	return 0;
}

int layer_take(struct layers *ls, struct call *c, const char *diff_id, struct layer_work *w, struct err *e)
{
	struct digest d;
	bool mine;

	if (digest_parse(str_of(diff_id), &d, e) < 0)
		return -1;
	if (d.algo != DIGEST_SHA256)
		return err_set(e, ERR_UNIMPLEMENTED, "layer %s: only sha256 diff IDs are known", diff_id);
	if (shelf_take(&ls->shelf, c, diff_id, &mine, e) < 0)
		return -1;
	*w = (struct layer_work){ .diff_id = diff_id, .mine = mine, .dir_fd = -1 };
	if (!mine)
		return 0;
	if (make_folder(ls, w, e) < 0) {
		layer_abandon(ls, w);
		return -1;
	}
	return 0;
}

void layer_abandon(struct layers *ls, struct layer_work *w)
{
	struct err ignored; /* what cannot be removed now is swept at the next start */

	fd_close(&w->dir_fd);
	(void)fs_remove_tree(ls->fd, w->name, &ignored);
	shelf_failed(&ls->shelf, w->diff_id);
	w->mine = false;
}

static uint64_t flags_of(const struct unpack_result *r)
{
	return (r->opaque && strv_has(r->opaque, ".") ? LAYER_OPAQUE_ROOT : 0) | (r->has_root ? LAYER_HAS_ROOT : 0);
}

static int rename_whole(struct layers *ls, const struct layer_work *w, const struct unpack_result *r, struct err *e)
{
	const char *name = digest_hex(w->diff_id);

	if (!streq(r->diff_id, w->diff_id))
		return err_set(e, ERR_DATA_LOSS, "layer %s: its bytes have the digest %s", w->diff_id, r->diff_id);
	if (renameat(ls->fd, w->name, ls->fd, name) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_sys(e, errno, "rename layer %s", w->diff_id);
	if (remove_layer(ls, w->diff_id, e) < 0) /* one that nobody knows of */
		return -1;
	if (renameat(ls->fd, w->name, ls->fd, name) < 0)
		return err_sys(e, errno, "rename layer %s", w->diff_id);
	return 0;
}

int layer_commit(struct layers *ls, struct layer_work *w, const struct unpack_result *r, struct err *e)
{
	if (rename_whole(ls, w, r, e) < 0) {
		layer_abandon(ls, w);
		return -1;
	}
	fd_close(&w->dir_fd);
	w->mine = false;
	shelf_made(&ls->shelf, w->diff_id, r->disk_bytes, r->inodes, flags_of(r));
	return 0;
}

void layer_release(struct layers *ls, const char *diff_id)
{
	shelf_unref(&ls->shelf, diff_id);
}

bool layer_ref(struct layers *ls, const char *diff_id)
{
	return shelf_ref(&ls->shelf, diff_id);
}

/* --- using ----------------------------------------------------------------------------------------- */

static int open_named(int layers_fd, const char *name, int *fd, struct err *e)
{
	int dir = fd_open(layers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);

	if (dir < 0)
		return err_in(e, "layer");
	*fd = dir;
	return 0;
}

int layer_open(struct layers *ls, const char *diff_id, int *fd, struct err *e)
{
	if (digest_check(diff_id, e) < 0)
		return -1;
	return open_named(ls->fd, digest_hex(diff_id), fd, e);
}

int layer_open_base(struct layers *ls, int *fd, struct err *e)
{
	return open_named(ls->fd, base_name, fd, e);
}

int layers_map(struct layers *ls, int userns_fd, int *map_fd, struct err *e)
{
	auto_fd int fd = mount_clone(ls->fd, "", false, e);

	if (fd < 0 || mount_idmap(fd, userns_fd, false, e) < 0)
		return err_in(e, "layers in a user namespace");
	*map_fd = fd_take(&fd);
	return 0;
}

int layer_open_mapped(int map_fd, const char *diff_id, int *fd, struct err *e)
{
	if (diff_id && digest_check(diff_id, e) < 0)
		return -1;
	return open_named(map_fd, diff_id ? digest_hex(diff_id) : base_name, fd, e);
}

bool layer_get(struct layers *ls, const char *diff_id, struct shelf_item *out)
{
	return shelf_get(&ls->shelf, diff_id, out);
}

int layers_sync(struct layers *ls, struct err *e)
{
	if (syncfs(ls->fd) < 0)
		return err_sys(e, errno, "write the layers to disk (syncfs)");
	return 0;
}

int layers_collect(struct layers *ls, struct err *e)
{
	return shelf_collect(&ls->shelf, remove_layer, ls, e);
}

void layers_usage(struct layers *ls, uint64_t *bytes, uint64_t *inodes)
{
	shelf_sum(&ls->shelf, bytes, inodes);
}
