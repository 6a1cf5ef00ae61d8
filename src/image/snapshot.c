/* A container's root: containers/ID/{upper,work} over its image's layers, and the link "image" that
 * says whose. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "image/images.h"
#include "image/stack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WALK_DEPTH_MAX = 128, VOLUMES_MAX = 1000 };
static const int64_t usage_kept_ns = 10 * NS_PER_S;

struct volume {                 /* the image of an image volume, held too */
	struct volume *next;
	char *image;
};

struct snapshot {
	char *id, *image;
	struct volume *volumes;
	uint64_t bytes, inodes;
	int64_t valid_until_ns; /* CLOCK_MONOTONIC, of the two; 0: never walked */
	bool walking;
};

struct snapshots {
	int fd; /* containers/ */
	struct lock lock;
	struct map by_id;
	pthread_t sweeper;
	bool sweeping, joinable, closing;
	uint64_t gone;          /* counts what the sweeper was asked for */
};

/* What is removed gets such a name at once, and goes when there is time. */
static const char gone_prefix[] = ".gone-";

/* --- the table ------------------------------------------------------------------------------------- */

static bool add(struct snapshots *ss, const char *id, const char *image)
{
	struct snapshot *s;

	LOCKED(&ss->lock);
	if (map_get(&ss->by_id, id))
		return false;
	s = mem_new0(struct snapshot);
	s->id = mem_strdup(id);
	s->image = mem_strdup(image);
	BUG_ON(!map_add(&ss->by_id, s->id, s));
	return true;
}

static void snapshot_free(struct images *im, struct snapshot *s)
{
	struct volume *v;

	images_unhold(im, s->image);
	while ((v = s->volumes)) {
		s->volumes = v->next;
		images_unhold(im, v->image);
		mem_free(v->image);
		mem_free(v);
	}
	mem_free(s->id);
	mem_free(s->image);
	mem_free(s);
}

static struct snapshot *take_out(struct snapshots *ss, const char *id)
{
	LOCKED(&ss->lock);
	return map_remove(&ss->by_id, id);
}

static char *image_of(struct snapshots *ss, struct arena *a, const char *id)
{
	struct snapshot *s;

	LOCKED(&ss->lock);
	s = map_get(&ss->by_id, id);
	return s ? arena_strdup(a, s->image) : NULL;
}

static bool add_volume(struct snapshots *ss, const char *id, const char *image)
{
	struct snapshot *s;
	struct volume *v;

	LOCKED(&ss->lock);
	s = map_get(&ss->by_id, id);
	if (!s)
		return false;
	v = mem_new0(struct volume);
	*v = (struct volume){ s->volumes, mem_strdup(image) };
	s->volumes = v;
	return true;
}

/* --- removing what is gone -------------------------------------------------------------------------- */

/* To free a container's files can take long (a disk that discards at once; many files), and nobody needs
 * to wait for it. What cannot be removed is tried again by the next sweep. */
static void sweep_once(struct snapshots *ss)
{
	auto_arena a = { 0 };
	char **names = NULL;
	struct dirent *d;
	struct err e;
	int fd = openat(ss->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((d = readdir(dir)))
		if (starts_with(d->d_name, gone_prefix))
			names = strv_append(&a, names, arena_strdup(&a, d->d_name));
	(void)closedir(dir);
	for (size_t i = 0; names && names[i]; i++)
		if (fs_remove_tree(ss->fd, names[i], &e) < 0)
			log_warn("removed container's files cannot be removed yet: %s", e.msg);
}

static void *sweep(void *arg)
{
	struct snapshots *ss = arg;
	uint64_t seen;

	for (;;) {
		lock_acquire(&ss->lock);
		seen = ss->gone;
		lock_release(&ss->lock);
		sweep_once(ss);
		LOCKED(&ss->lock);
		if (!ss->closing && seen != ss->gone)
			continue;
		ss->sweeping = false;
		return NULL;
	}
}

static void sweep_begin(struct snapshots *ss)
{
	struct err e;
	LOCKED(&ss->lock);

	ss->gone++;
	if (ss->sweeping || ss->closing)
		return;
	if (ss->joinable)
		(void)pthread_join(ss->sweeper, NULL); /* it has ended */
	ss->joinable = ss->sweeping = thread_start(&ss->sweeper, "sweep", sweep, ss, &e) == 0;
	if (!ss->joinable)
		log_warn("removed containers' files wait for the next removal: %s", e.msg);
}

static void sweep_end(struct snapshots *ss)
{
	lock_acquire(&ss->lock);
	ss->closing = true;
	lock_release(&ss->lock);
	if (ss->joinable)
		(void)pthread_join(ss->sweeper, NULL);
}

/* --- start ----------------------------------------------------------------------------------------- */

static char *volume_link(struct arena *a, const char *id, unsigned i)
{
	return arena_printf(a, "%s/volume-%u", id, i);
}

static void adopt_volumes(struct images *im, const char *id)
{
	struct snapshots *ss = im->snapshots;
	const struct image_record *record;
	auto_arena a = { 0 };
	char target[512];
	struct err e;
	ssize_t n;

	for (unsigned i = 0; i < VOLUMES_MAX; i++) {
		n = readlinkat(ss->fd, volume_link(&a, id, i), target, sizeof(target) - 1);
		if (n < 0)
			return;
		target[n] = '\0';
		if (images_hold(im, target, &record, &e) < 0)
			log_warn("container's image volume is gone container=%s image=%s", id, target);
		else if (!add_volume(ss, id, target))
			images_unhold(im, target);
	}
}

/* What an earlier knarrd made holds its image on. */
static void adopt(struct images *im, const char *id)
{
	struct snapshots *ss = im->snapshots;
	const struct image_record *record;
	auto_arena a = { 0 };
	char target[512];
	ssize_t n = readlinkat(ss->fd, arena_printf(&a, "%s/image", id), target, sizeof(target) - 1);
	struct err e;

	if (n < 0)
		return; /* no snapshot */
	target[n] = '\0';
	if (images_hold(im, target, &record, &e) < 0)
		log_warn("container's image is gone container=%s image=%s", id, target);
	else if (!add(ss, id, target))
		images_unhold(im, target);
	adopt_volumes(im, id);
}

int snapshots_open(struct images *im, struct err *e)
{
	auto_fd int fd = -1;
	struct dirent *d;
	int copy;
	DIR *dir;

	if (fs_mkdirs(im->root_fd, "containers", 0711, e) < 0)
		return -1;
	fd = fd_open(im->root_fd, "containers", O_RDONLY | O_DIRECTORY, e);
	copy = fd < 0 ? -1 : fd_open(fd, ".", O_RDONLY | O_DIRECTORY, e);
	if (copy < 0)
		return -1;
	dir = fdopendir(copy);
	if (!dir) {
		fd_close(&copy);
		return err_sys(e, errno, "read the containers' folder");
	}
	stack_clear(im);
	im->snapshots = mem_new0(struct snapshots);
	im->snapshots->fd = fd_take(&fd);
	lock_init(&im->snapshots->lock);
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			adopt(im, d->d_name);
	(void)closedir(dir);
	sweep_begin(im->snapshots);
	return 0;
}

void snapshots_close(struct images *im)
{
	struct snapshots *ss = im->snapshots;
	struct snapshot *s;

	sweep_end(ss);
	for (size_t i = 0; (s = map_next(&ss->by_id, &i));) {
		snapshot_free(im, s);
	}
	map_free(&ss->by_id);
	fd_close(&ss->fd);
	lock_destroy(&ss->lock);
	mem_free(ss);
	im->snapshots = NULL;
}

/* --- making ---------------------------------------------------------------------------------------- */

/* Owner and mode of the root: the topmost layer's that says one. The upper folder's counts. */
static int root_like_image(struct images *im, int upper, const struct image_record *r, struct err *e)
{
	for (size_t i = strv_len(r->layers); i-- > 0;) {
		struct shelf_item item;
		auto_fd int fd = -1;
		struct stat st;

		if (!layer_get(im->layers, r->layers[i], &item) || !(item.flags & LAYER_HAS_ROOT))
			continue;
		if (layer_open(im->layers, r->layers[i], &fd, e) < 0)
			return -1;
		if (fstat(fd, &st) < 0 || fchown(upper, st.st_uid, st.st_gid) < 0 || fchmod(upper, st.st_mode & 07777) < 0)
			return err_sys(e, errno, "root folder like the image's");
		return 0;
	}
	if (fchmod(upper, 0755) < 0)
		return err_sys(e, errno, "root folder");
	return 0;
}

static int make(struct images *im, const char *id, const char *image_id, const struct image_record *r, struct err *e)
{
	auto_fd int dir = -1, upper = -1;

	if (fs_mkdirs(im->snapshots->fd, id, 0711, e) < 0)
		return -1;
	dir = fd_open(im->snapshots->fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	if (dir < 0)
		return -1;
	if (symlinkat(image_id, dir, "image") < 0)
		return err_sys(e, errno, "note the image");
	if (mkdirat(dir, "upper", 0755) < 0 || mkdirat(dir, "work", 0700) < 0)
		return err_sys(e, errno, "make upper and work");
	upper = fd_open(dir, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	return upper < 0 ? -1 : root_like_image(im, upper, r, e);
}

static int id_check(const char *id, struct err *e)
{
	if (!*id || *id == '.' || strchr(id, '/'))
		return err_set(e, ERR_INVALID, "\"%s\" is no container ID", id);
	return 0;
}

int snapshot_create(struct images *im, const char *container_id, const char *image_id, struct err *e)
{
	const struct image_record *record;
	struct err ignored; /* recovery tries again */

	if (id_check(container_id, e) < 0 || images_hold(im, image_id, &record, e) < 0)
		return err_in(e, "snapshot for container %s", container_id);
	if (!add(im->snapshots, container_id, image_id)) {
		images_unhold(im, image_id);
		return err_set(e, ERR_EXISTS, "container %s has a snapshot already", container_id);
	}
	if (make(im, container_id, image_id, record, e) < 0) {
		(void)snapshot_remove(im, container_id, &ignored);
		return err_in(e, "snapshot for container %s", container_id);
	}
	return 0;
}

int snapshot_hold(struct images *im, const char *container_id, const char *image_id, struct err *e)
{
	const struct image_record *record;
	auto_arena a = { 0 };
	unsigned i = 0;

	if (images_hold(im, image_id, &record, e) < 0)
		return err_in(e, "image volume of container %s", container_id);
	while (i < VOLUMES_MAX && symlinkat(image_id, im->snapshots->fd, volume_link(&a, container_id, i)) < 0) {
		if (errno != EEXIST) {
			(void)err_sys(e, errno, "note an image volume of container %s", container_id);
			images_unhold(im, image_id);
			return -1;
		}
		i++;
	}
	if (i < VOLUMES_MAX && add_volume(im->snapshots, container_id, image_id))
		return 0;
	images_unhold(im, image_id);
	return err_set(e, i == VOLUMES_MAX ? ERR_EXHAUSTED : ERR_NOT_FOUND, "container %s can have no image volume more",
		       container_id);
}

int snapshot_remove(struct images *im, const char *container_id, struct err *e)
{
	auto_arena a = { 0 };
	struct snapshot *s;

	if (id_check(container_id, e) < 0)
		return -1;
	if (renameat(im->snapshots->fd, container_id, im->snapshots->fd,
		     arena_printf(&a, "%s%s", gone_prefix, container_id)) == 0)
		sweep_begin(im->snapshots);
	else if (errno != ENOENT && fs_remove_tree(im->snapshots->fd, container_id, e) < 0)
		return err_in(e, "snapshot of container %s", container_id);
	s = take_out(im->snapshots, container_id);
	if (s)
		snapshot_free(im, s);
	return 0;
}

/* --- mounting -------------------------------------------------------------------------------------- */

static int open_writable(struct images *im, const char *id, struct stack *s, struct err *e)
{
	auto_fd int dir = fd_open(im->snapshots->fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);

	if (dir < 0)
		return -1;
	/* Left by a volatile mount that a reboot ended: it keeps the kernel from mounting again. */
	if (fs_remove_tree(dir, "work/work/incompat", e) < 0)
		return -1;
	s->upper = fd_open(dir, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	s->work = s->upper < 0 ? -1 : fd_open(dir, "work", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e);
	return s->work < 0 ? -1 : 0;
}

/* The writable folder is the container's root's: who that is, the mapped layers tell. */
static int give_to_root(const struct stack *s, struct err *e)
{
	struct stat st;

	if (s->userns_fd < 0)
		return 0;
	if (fstat(s->lower[s->root], &st) < 0 || fchown(s->upper, st.st_uid, st.st_gid) < 0)
		return err_sys(e, errno, "give the root folder to the container's root");
	return 0;
}

static int mount_stack(struct images *im, const char *id, const struct image_record *r, int userns_fd, int *mount_fd,
		       struct err *e)
{
	auto_stack s = STACK_INIT(userns_fd, im->settings.volatile_roots ? OVERLAY_VOLATILE : 0);

	if (stack_open(im, r, &s, e) < 0 || open_writable(im, id, &s, e) < 0 || give_to_root(&s, e) < 0)
		return -1;
	return stack_mount(im, &s, mount_fd, e);
}

int snapshot_mount(struct images *im, const char *container_id, int userns_fd, int *mount_fd, struct err *e)
{
	const struct image_record *record;
	auto_arena a = { 0 };
	char *image = image_of(im->snapshots, &a, container_id);
	int rc;

	if (!image)
		return err_set(e, ERR_NOT_FOUND, "container %s has no snapshot", container_id);
	if (images_hold(im, image, &record, e) < 0)
		return -1;
	rc = mount_stack(im, container_id, record, userns_fd, mount_fd, e);
	images_unhold(im, image);
	return rc < 0 ? err_in(e, "root of container %s", container_id) : 0;
}

/* --- usage ----------------------------------------------------------------------------------------- */

/* A file with n names counts n times one n-th. */
struct walk {
	uint64_t sectors;  /* in 1/256 */
	uint64_t inodes;   /* in 1/256 */
};

static void walk_entry(struct walk *w, int dirfd, const char *name, int depth);

/* What vanishes meanwhile, or lies deeper than anyone's files do, counts nothing. */
static void walk_folder(struct walk *w, int fd, int depth)
{
	struct dirent *d;
	DIR *dir = fdopendir(fd);

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((d = readdir(dir)))
		if (!streq(d->d_name, ".") && !streq(d->d_name, ".."))
			walk_entry(w, fd, d->d_name, depth);
	(void)closedir(dir);
}

static void walk_entry(struct walk *w, int dirfd, const char *name, int depth)
{
	struct stat st;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
		w->sectors += (uint64_t)st.st_blocks * 256 / st.st_nlink;
		w->inodes += 256 / MIN(st.st_nlink, (nlink_t)256);
		return;
	}
	w->sectors += (uint64_t)st.st_blocks * 256;
	w->inodes += 256;
	if (!S_ISDIR(st.st_mode) || depth == WALK_DEPTH_MAX)
		return;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		walk_folder(w, fd, depth + 1);
}

/* False: the figures at hand are good, or another is at it. */
static bool walk_begin(struct snapshots *ss, const char *id, uint64_t *bytes, uint64_t *inodes, bool *found)
{
	struct snapshot *s;

	LOCKED(&ss->lock);
	s = map_get(&ss->by_id, id);
	*found = s != NULL;
	if (!s)
		return false;
	*bytes = s->bytes;
	*inodes = s->inodes;
	if (s->walking || (s->valid_until_ns && clock_mono_ns() < s->valid_until_ns))
		return false;
	s->walking = true;
	return true;
}

/* A walk that took long is not soon made again: it may cost a twentieth of the time at most. */
static void walk_end(struct snapshots *ss, const char *id, const struct walk *w, int64_t took_ns)
{
	struct snapshot *s;

	LOCKED(&ss->lock);
	s = map_get(&ss->by_id, id);
	if (!s)
		return; /* removed meanwhile */
	s->bytes = w->sectors / 256 * 512;
	s->inodes = (w->inodes + 128) / 256;
	s->valid_until_ns = clock_mono_ns() + MAX(usage_kept_ns, 20 * took_ns);
	s->walking = false;
}

int snapshot_usage(struct images *im, const char *container_id, uint64_t *bytes, uint64_t *inodes, struct err *e)
{
	struct snapshots *ss = im->snapshots;
	int64_t begin = clock_mono_ns();
	struct walk w = { 0 };
	auto_arena a = { 0 };
	bool found;

	if (walk_begin(ss, container_id, bytes, inodes, &found)) {
		walk_entry(&w, ss->fd, arena_printf(&a, "%s/upper", container_id), 0);
		walk_end(ss, container_id, &w, clock_mono_ns() - begin);
		*bytes = w.sectors / 256 * 512;
		*inodes = (w.inodes + 128) / 256;
	}
	return found ? 0 : err_set(e, ERR_NOT_FOUND, "container %s has no snapshot", container_id);
}
