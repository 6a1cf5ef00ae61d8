/* crun's annotations that people use. Those that only tune what we do by ourselves are ignored, as all that are not
 * known; one that asks for another kind of runtime is refused. */
#include "runtime/oci.h"

#include "base/fd.h"
#include "base/str.h"
#include "kernel/seccomp.h"

#include <fcntl.h>

static bool is_on(const char *value)
{
	return value && (streq(value, "1") || streq(value, "true"));
}

static int hooks_output(const struct json_map *m, const char *name, int *fd, struct err *e)
{
	const char *path = json_map_get(m, name);

	*fd = -1;
	if (str_is_empty(path))
		return 0;
	*fd = fd_create(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0700, e);
	return *fd < 0 ? err_in(e, "annotations: %s", name) : 0;
}

static bool known_anywhere(const char *name)
{
	for (int arch = 0; arch < SECCOMP_ARCH_COUNT; arch++)
		if (seccomp_syscall((enum seccomp_arch)arch, name) >= 0)
			return true;
	return false;
}

static int check_names(const struct oci_seccomp *s, struct err *e)
{
	OCI_EACH(oci_syscall_rule, r, s->syscalls)
		for (char **name = r->names; name && *name; name++)
			if (!known_anywhere(*name))
				return err_set(e, ERR_INVALID, "linux.seccomp.syscalls.names: unknown system call \"%s\" "
					       "(run.oci.seccomp_fail_unknown_syscall)", *name);
	return 0;
}

static int seccomp(const struct json_map *m, struct oci_seccomp *s, struct err *e)
{
	const char *receiver = json_map_get(m, "run.oci.seccomp.receiver");

	if (!s)
		return 0;
	if (!str_is_empty(receiver) && str_is_empty(s->listener_path))
		s->listener_path = (char *)receiver;
	return is_on(json_map_get(m, "run.oci.seccomp_fail_unknown_syscall")) ? check_names(s, e) : 0;
}

int oci_annotations_apply(struct oci_app *app, struct oci_config *c, struct err *e)
{
	const struct json_map *m = &c->annotations;
	const char *handler = json_map_get(m, "run.oci.handler");
	int out, error;

	if (!m->count)
		return 0;
	if (!str_is_empty(handler) && !streq(handler, "crun") && !streq(handler, "runc"))
		return err_set(e, ERR_UNIMPLEMENTED, "annotations: run.oci.handler: \"%s\" is not a kind of container that "
			       "knarr-oci runs", handler);
	if (is_on(json_map_get(m, "run.oci.keep_original_groups")))
		app->container_flags |= CONTAINER_KEEP_GROUPS;
	if (hooks_output(m, "run.oci.hooks.stdout", &out, e) < 0)
		return -1;
	if (hooks_output(m, "run.oci.hooks.stderr", &error, e) < 0) {
		fd_close(&out);
		return -1;
	}
	container_hooks_output(out, error); /* open until we end */
	return seccomp(m, c->on_linux ? c->on_linux->seccomp : NULL, e);
}
