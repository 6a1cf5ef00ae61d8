/* NRI, the Node Resource Interface (github.com/containerd/nri, docs/inside/nri.md): plugins, programs of their own,
 * hear of the lives of pods and containers and adjust containers while they are created or updated.
 *
 * A plugin connects to a socket, or is started by us from a folder. It registers, is configured, is told all that is
 * there (synchronised), and from that very moment hears of everything: what happens while it is being synchronised
 * waits for it. Plugins are asked in the order of their indices, each one thing at a time. One that does not answer in
 * time, dies, or sends what is no NRI loses its connection and is asked no more; the call under way goes on without
 * it. An error that it answers is its decision, and fails the call. Two plugins that want the same thing differently
 * fail the creation, by name. */
#ifndef KNARR_NRI_NRI_H
#define KNARR_NRI_NRI_H

#include "base/call.h"
#include "base/err.h"

struct nri;
struct pods;

struct nri_settings {
	const char *socket;          /* "/var/run/nri/nri.sock"; NULL: no connections from outside */
	const char *plugin_dir;      /* "/opt/nri/plugins": programs called NN-NAME */
	const char *config_dir;      /* "/etc/nri/conf.d": NN-NAME.conf or NAME.conf */
	int64_t registration_ns, request_ns;
};

/* Starts the plugins of the folder and waits until each is synchronised or has failed, then listens. The pods must be
 * recovered; they call it until they are closed. The settings' texts must live as long. *out is set on failure, too, and
 * is to be stopped and freed in any case. */
int nri_open(const struct nri_settings *settings, struct pods *pods, struct nri **out, struct err *e);
/* Ends all connections; then, when the pods are closed, gives the memory back. NULL is fine. */
void nri_stop(struct nri *n);
void nri_free(struct nri *n);

#endif
