#include "runtime/container.h"

#include "base/call.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "spec/oci_state.h"

static int output_fd = -1, error_fd = -1;

void container_hooks_output(int out_fd, int err_fd)
{
	output_fd = out_fd;
	error_fd = err_fd;
}

static void pass_on(int fd, const struct buf *b)
{
	struct err ignored;

	if (fd >= 0)
		(void)fd_write_all(fd, b->p, b->len, &ignored); /* a wish of the caller's, not of the container's */
}

static int run_one(const struct oci_hook *h, const struct container_hooks_place *at, struct str state, struct err *e)
{
	char *const only_path[] = { h->path, NULL };
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc_output result;
	auto_call call;
	auto_buf out = BUF(4096), err_out = BUF(4096);

	spec.file = h->path;
	spec.argv = h->args && h->args[0] ? h->args : only_path;
	spec.envp = h->env && h->env[0] ? h->env : at->env;
	spec.flags |= at->in_cwd ? PROC_KEEP_CWD : 0;
	call_begin(&call, h->timeout ? clock_mono_ns() + *h->timeout * NS_PER_S : 0);
	if (proc_run(&call, &spec, state, &out, &err_out, &result, e) < 0)
		return e->kind == ERR_TIMEOUT ? err_set(e, ERR_TIMEOUT, "hook %s: not done within its timeout of %lld s", h->path,
							(long long)*h->timeout) : err_in(e, "hook %s", h->path);
	pass_on(output_fd, &out);
	pass_on(error_fd, &err_out);
	if (result.exit.code)
		return err_set(e, ERR_SYSTEM, "hook %s: exit code %d: %.*s", h->path, result.exit.code,
			       STR_ARG(str_trim(buf_str(&err_out))));
	return 0;
}

int container_hooks_run(const char *name, const struct json_vec *hooks, const struct container_hooks_place *at,
			const struct oci_state *state, struct err *e)
{
	static const struct container_hooks_place hosts = { 0 };
	auto_buf text = BUF(1 << 20);
	size_t i = 0;

	if (oci_state_write(&text, state, e) < 0)
		return -1;
	OCI_EACH(oci_hook, h, *hooks) {
		if (run_one(h, at ? at : &hosts, buf_str(&text), e) < 0)
			return err_in(e, "error running %s hook #%zu", name, i);
		i++;
	}
	return 0;
}

void container_hooks_run_all(const struct json_vec *hooks, const struct oci_state *state)
{
	static const struct container_hooks_place hosts = { 0 };
	auto_buf text = BUF(1 << 20);
	struct err e;

	if (oci_state_write(&text, state, &e) < 0) {
		log_warn("%s", e.msg);
		return;
	}
	OCI_EACH(oci_hook, h, *hooks)
		if (run_one(h, &hosts, buf_str(&text), &e) < 0)
			log_warn("%s", e.msg);
}
