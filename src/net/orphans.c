#include "net/orphans.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

enum { ENVIRON_MAX = 2 << 20, WAIT_MS = 2000 };

static bool environ_has(struct str env, char *const *pod_ids)
{
	while (env.p && env.len) {
		struct str item = str_cut(&env, '\0');

		if (!str_starts(item, "CNI_CONTAINERID="))
			continue;
		for (; *pod_ids; pod_ids++)
			if (str_eqz((struct str){ item.p + 16, item.len - 16 }, *pod_ids))
				return true;
		return false;
	}
	return false;
}

/* The pidfd is opened before its environment is read, so that what is killed is what was looked at. */
static bool end_one(pid_t pid, char *const *pod_ids)
{
	auto_arena a = { 0 };
	auto_fd int pidfd = -1;
	struct pollfd p = { .events = POLLIN };
	struct str env;
	struct err e;

	pidfd = proc_pidfd_open(pid, &e);
	if (pidfd < 0 ||
	    fs_read_file(&a, AT_FDCWD, arena_printf(&a, "/proc/%d/environ", pid), ENVIRON_MAX, &env, &e) < 0 ||
	    !environ_has(env, pod_ids))
		return false;
	log_warn("ending a CNI plugin that an earlier knarrd left running pid=%d", pid);
	if (proc_signal(pidfd, SIGKILL, &e) < 0)
		return true; /* it has just ended */
	p.fd = pidfd;
	if (poll(&p, 1, WAIT_MS) == 0)
		log_warn("a killed CNI plugin does not end pid=%d", pid);
	return true;
}

size_t orphans_end(char *const *pod_ids)
{
	DIR *proc = opendir("/proc");
	struct dirent *f;
	size_t n = 0;

	if (!proc)
		return 0;
	while ((f = readdir(proc))) {
		struct err e;
		int64_t pid;

		if (*f->d_name >= '1' && *f->d_name <= '9' && str_to_i64(str_of(f->d_name), &pid, &e) == 0 &&
		    pid != getpid() && end_one((pid_t)pid, pod_ids))
			n++;
	}
	(void)closedir(proc);
	return n;
}
