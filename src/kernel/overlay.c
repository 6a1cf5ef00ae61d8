#include "kernel/overlay.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static const char *const off[][2] = {
	{ "index", "off" }, { "metacopy", "off" }, { "xino", "off" }, { "redirect_dir", "off" },
};

static atomic_int best = OVERLAY_BY_FD; /* the first that this kernel takes */

/* --- through a file-system context ------------------------------------------------------------------ */

/* What the kernel logged for this context: "e overlay: …", one message a read. */
static int failed(int fs, const char *what, struct err *e)
{
	int saved = errno;
	char said[256];
	ssize_t n = read(fs, said, sizeof(said) - 1);

	if (n <= 2)
		return err_sys(e, saved, "overlay: %s", what);
	said[n] = '\0';
	said[strcspn(said, "\n")] = '\0';
	return err_sys(e, saved, "overlay: %s (%s)", what, said + 2);
}

static int set_text(int fs, const char *key, const char *value, struct err *e)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? failed(fs, key, e) : 0;
}

static int set_folder(int fs, const char *key, int fd, enum overlay_way way, struct err *e)
{
	struct fd_path path;

	if (way == OVERLAY_BY_FD)
		return fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? failed(fs, key, e) : 0;
	return set_text(fs, key, fd_path(&path, fd), e);
}

static int lower_string(const struct overlay_spec *s, struct buf *b, struct err *e);

static int set_lower(int fs, const struct overlay_spec *s, enum overlay_way way, struct err *e)
{
	auto_buf text = BUF(4000);

	if (way == OVERLAY_BY_SHORT_STRING)
		return lower_string(s, &text, e) < 0 ? -1 : set_text(fs, "lowerdir", text.p, e);
	for (size_t i = 0; i < s->nlower; i++)
		if (set_folder(fs, "lowerdir+", s->lower[i], way, e) < 0)
			return -1;
	return 0;
}

static int configure(int fs, const struct overlay_spec *s, enum overlay_way way, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		if (set_text(fs, off[i][0], off[i][1], e) < 0)
			return -1;
	if (set_lower(fs, s, way, e) < 0)
		return -1;
	if (s->upper >= 0 && (set_folder(fs, "upperdir", s->upper, way, e) < 0 ||
			      set_folder(fs, "workdir", s->work, way, e) < 0))
		return -1;
	if (s->flags & OVERLAY_VOLATILE && fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
		return failed(fs, "volatile", e);
	return 0;
}

static int mount_by_context(const struct overlay_spec *s, enum overlay_way way, int *out, struct err *e)
{
	auto_fd int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0)
		return err_sys(e, errno, "overlay");
	if (set_text(fs, "source", "knarr", e) < 0 || configure(fs, s, way, e) < 0)
		return -1;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return failed(fs, "mount", e);
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, s->upper < 0 ? MOUNT_ATTR_RDONLY : 0);
	if (mnt < 0)
		return failed(fs, "mount", e);
	*out = mnt;
	return 0;
}

/* --- as one string --------------------------------------------------------------------------------- */

/* Paths of fds are the shortest there are. */
static int lower_string(const struct overlay_spec *s, struct buf *b, struct err *e)
{
	for (size_t i = 0; i < s->nlower; i++)
		if (buf_addf(b, e, "%s/proc/self/fd/%d", i ? ":" : "", s->lower[i]) < 0)
			return err_set(e, ERR_EXHAUSTED, "overlay: %zu lower folders are too many for this kernel",
				       s->nlower);
	return 0;
}

/* mount(2) takes a page of options. */
static int option_string(const struct overlay_spec *s, struct buf *b, struct err *e)
{
	if (buf_addz(b, "lowerdir=", e) < 0 || lower_string(s, b, e) < 0)
		return -1;
	if (s->upper >= 0 &&
	    buf_addf(b, e, ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", s->upper, s->work) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		if (buf_addf(b, e, ",%s=%s", off[i][0], off[i][1]) < 0)
			return -1;
	return s->flags & OVERLAY_VOLATILE ? buf_addz(b, ",volatile", e) : 0;
}

/* Attached over one of its own folders for the moment that cloning takes. */
static int mount_by_string(const struct overlay_spec *s, int *out, struct err *e)
{
	auto_buf options = BUF(4000);
	char path[PATH_MAX];
	struct fd_path link;
	ssize_t n = readlink(fd_path(&link, s->upper >= 0 ? s->work : s->lower[0]), path, sizeof(path) - 1);
	int mnt, saved;

	if (n < 0)
		return err_sys(e, errno, "overlay: find the path of a folder");
	path[n] = '\0';
	if (option_string(s, &options, e) < 0)
		return -1;
	if (mount("knarr", path, "overlay", s->upper < 0 ? MS_RDONLY : 0, options.p) < 0)
		return err_sys(e, errno, "overlay: mount on %s", path);
	mnt = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	saved = errno;
	(void)umount2(path, MNT_DETACH); /* mounted a moment ago; busy does not matter */
	if (mnt < 0)
		return err_sys(e, saved, "overlay: detach the mount at %s", path);
	*out = mnt;
	return 0;
}

/* --- either ---------------------------------------------------------------------------------------- */

static int mount_by(const struct overlay_spec *s, enum overlay_way way, int *out, struct err *e)
{
	return way == OVERLAY_BY_STRING ? mount_by_string(s, out, e) : mount_by_context(s, way, out, e);
}

int overlay_mount(const struct overlay_spec *spec, int *mount_fd, struct err *e)
{
	struct err first;

	if (!spec->nlower || spec->nlower > OVERLAY_LOWER_MAX)
		return err_set(e, ERR_EXHAUSTED, "overlay: %zu lower folders; 1 to %d are possible", spec->nlower,
			       OVERLAY_LOWER_MAX);
	if (spec->way != OVERLAY_BEST)
		return mount_by(spec, spec->way, mount_fd, e);
	for (int way = atomic_load(&best); way <= OVERLAY_BY_STRING; way++) {
		if (mount_by(spec, (enum overlay_way)way, mount_fd, e) == 0) {
			/* Many folders may need the long string; the next mount has fewer. */
			if (way != OVERLAY_BY_STRING)
				atomic_store(&best, way);
			return 0;
		}
		if (way == atomic_load(&best))
			first = *e;
		/* What an older kernel does not know is EINVAL (EOPNOTSUPP for an fd), and so is much else. */
		if (e->sys != EINVAL && e->sys != EOPNOTSUPP && e->sys != ENOSYS)
			return -1;
	}
	*e = first;
	return -1;
}
