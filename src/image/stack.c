#include "image/stack.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"
#include "kernel/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

void stack_close(struct stack *s)
{
	for (size_t i = 0; i < s->n; i++)
		fd_close(&s->lower[i]);
	s->n = 0;
	fd_close(&s->upper);
	fd_close(&s->work);
	fd_close(&s->map_fd);
}

/* --- opening --------------------------------------------------------------------------------------- */

static int open_layer(struct images *im, struct stack *s, const char *diff_id, struct err *e)
{
	int *fd = &s->lower[s->n];
	int rc = s->map_fd >= 0 ? layer_open_mapped(s->map_fd, diff_id, fd, e) :
		 diff_id ? layer_open(im->layers, diff_id, fd, e) : layer_open_base(im->layers, fd, e);

	s->n += rc == 0;
	return rc;
}

static bool comes_again(char *const *layers, size_t i)
{
	return strv_has(layers + i + 1, layers[i]);
}

/* A layer that comes again further up shows nothing here; what lies below an opaque root is hidden. */
int stack_open(struct images *im, const struct image_record *r, struct stack *s, struct err *e)
{
	bool has_root = false;

	if (s->userns_fd >= 0 && layers_map(im->layers, s->userns_fd, &s->map_fd, e) < 0)
		return -1;
	for (size_t i = strv_len(r->layers); i-- > 0;) {
		struct shelf_item item = { 0 };

		if (comes_again(r->layers, i))
			continue;
		if (s->n == OVERLAY_LOWER_MAX)
			return err_set(e, ERR_EXHAUSTED, "the image has more than %d layers", OVERLAY_LOWER_MAX);
		if (open_layer(im, s, r->layers[i], e) < 0)
			return -1;
		if (!layer_get(im->layers, r->layers[i], &item))
			continue;
		if (item.flags & LAYER_HAS_ROOT && !has_root) {
			s->root = s->n - 1;
			has_root = true;
		}
		if (item.flags & LAYER_OPAQUE_ROOT)
			break;
	}
	if (s->n == OVERLAY_LOWER_MAX)
		return 0; /* the base only saves work */
	if (open_layer(im, s, NULL, e) < 0)
		return -1;
	if (!has_root)
		s->root = s->n - 1;
	return 0;
}

/* --- mounting -------------------------------------------------------------------------------------- */

static int overlay(const struct stack *s, enum overlay_way way, int *mount_fd, struct err *e)
{
	const struct overlay_spec spec = {
		.lower = s->lower, .nlower = s->n, .upper = s->upper, .work = s->work,
		.flags = s->flags & ~(unsigned)STACK_ATTACH, .way = way,
	};

	return overlay_mount(&spec, mount_fd, e);
}

static const char place_prefix[] = ".map-";

/* A place below the root folder where a mount that is attached nowhere is for a moment. */
struct place {
	struct images *im;
	char name[sizeof(place_prefix) + ID_HEX_LEN];
};

static void place_leave(const struct place *p)
{
	auto_arena a = { 0 };

	/* What cannot be taken away now the next start finds. */
	(void)umount2(path_join(&a, p->im->settings.root, p->name), MNT_DETACH | UMOUNT_NOFOLLOW);
	(void)unlinkat(p->im->root_fd, p->name, AT_REMOVEDIR);
}

static int place_take(struct place *p, struct images *im, int mount_fd, struct err *e)
{
	auto_fd int at = -1;

	*p = (struct place){ .im = im };
	(void)snprintf(p->name, sizeof(p->name), "%s", place_prefix);
	id_new(p->name + strlen(place_prefix));
	if (mkdirat(im->root_fd, p->name, 0700) < 0)
		return err_sys(e, errno, "make a place for a mount");
	at = fd_open(im->root_fd, p->name, O_PATH | O_DIRECTORY | O_NOFOLLOW, e);
	if (at >= 0 && mount_move_onto(mount_fd, at, p->name, e) == 0)
		return 0;
	place_leave(p);
	return -1;
}

void stack_clear(struct images *im)
{
	int fd = openat(im->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((d = readdir(dir))) {
		struct place p = { .im = im };

		if (!starts_with(d->d_name, place_prefix) || strlen(d->d_name) >= sizeof(p.name))
			continue;
		(void)snprintf(p.name, sizeof(p.name), "%s", d->d_name);
		place_leave(&p);
	}
	(void)closedir(dir);
}

static int overlay_of_attached(struct images *im, const struct stack *s, int *mount_fd, struct err *e)
{
	struct place p;
	int rc;

	if (place_take(&p, im, s->map_fd, e) < 0)
		return -1;
	rc = overlay(s, OVERLAY_BEST, mount_fd, e);
	place_leave(&p);
	return rc;
}

int stack_mount(struct images *im, const struct stack *s, int *mount_fd, struct err *e)
{
	if (s->map_fd < 0)
		return overlay(s, OVERLAY_BEST, mount_fd, e);
	/* What is attached nowhere has no path: by fd, or not at all. */
	if (!(s->flags & STACK_ATTACH) && overlay(s, OVERLAY_BY_FD, mount_fd, e) == 0)
		return 0;
	return overlay_of_attached(im, s, mount_fd, e);
}

/* --- what an image holds --------------------------------------------------------------------------- */

/* A folder of a mount that is attached nowhere can be cloned since Linux 6.15; before, the mount is for that long at a
 * place. */
static int clone_folder(struct images *im, int root, int folder, struct err *e)
{
	struct place p;
	int fd = mount_clone(folder, "", false, e);

	if (fd >= 0 || e->sys != EINVAL)
		return fd;
	if (place_take(&p, im, root, e) < 0)
		return -1;
	fd = mount_clone(folder, "", false, e);
	place_leave(&p);
	return fd;
}

static int mount_sub_path(struct images *im, const char *sub_path, int *root, struct err *e)
{
	auto_fd int folder = path_open_in_root(*root, sub_path, O_PATH, 0, e);
	struct stat st;
	int fd;

	if (folder < 0)
		return err_in(e, "image_sub_path \"%s\"", sub_path);
	if (fstat(folder, &st) < 0)
		return err_sys(e, errno, "image_sub_path \"%s\"", sub_path);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "image_sub_path \"%s\" is no folder of the image", sub_path);
	fd = clone_folder(im, *root, folder, e);
	if (fd < 0)
		return err_in(e, "image_sub_path \"%s\"", sub_path);
	fd_close(root);
	*root = fd;
	return 0;
}

int image_mount(struct images *im, const char *image_id, const char *sub_path, int userns_fd, int *mount_fd,
		struct err *e)
{
	auto_stack s = STACK_INIT(userns_fd, 0);
	const struct image_record *record;
	auto_fd int fd = -1;
	int rc;

	if (images_hold(im, image_id, &record, e) < 0)
		return err_in(e, "image volume");
	rc = stack_open(im, record, &s, e);
	images_unhold(im, image_id); /* the open folders stay */
	if (rc < 0 || stack_mount(im, &s, &fd, e) < 0 ||
	    (!str_is_empty(sub_path) && mount_sub_path(im, sub_path, &fd, e) < 0))
		return err_in(e, "image volume %s", image_id);
	*mount_fd = fd_take(&fd);
	return 0;
}
