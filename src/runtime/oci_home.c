#include "runtime/oci.h"

#include "base/fd.h"
#include "base/fs.h"
#include "spec/passwd.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { PASSWD_MAX = 1 << 20 };

/* What cannot be read, or is no file, has no homes in it: that is the container's business alone. */
static struct str read_passwd(struct oci_app *app, const char *root)
{
	struct err ignored;
	struct stat st;
	auto_buf bytes = BUF(PASSWD_MAX);
	auto_fd int dir = fd_open(AT_FDCWD, root, O_PATH | O_DIRECTORY, &ignored), fd = -1;

	if (dir >= 0)
		fd = path_open_in_root(dir, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &ignored);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fd_read_to_end(fd, &bytes, &ignored) < 0)
		return (struct str){ 0 };
	return (struct str){ arena_strndup(&app->arena, buf_text(&bytes), bytes.len), bytes.len };
}

void oci_home_set(struct oci_app *app, const char *root, struct oci_process *p)
{
	struct passwd_entry who;
	const char *home = "/";

	bool has = false;

	for (char *const *v = p->env; v && *v; v++)
		if (starts_with(*v, "HOME="))
			has = (*v)[5]; /* the last one counts */
	if (has)
		return;
	if (passwd_find(read_passwd(app, root), NULL, p->user.uid, &who) && who.home.len > 0)
		home = str_dup(&app->arena, who.home);
	p->env = strv_append(&app->arena, p->env, arena_printf(&app->arena, "HOME=%s", home));
}
