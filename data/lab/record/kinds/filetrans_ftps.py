"""File transfer with FTP over TLS, lftp against vsftpd: control and data connections, passive."""

from __future__ import annotations

import random

from .. import ssh
from ..host import Host
from ..kind import Kind, Lab, listening, wait_until

KIND = Kind("filetrans_ftps", "filetrans", "ftps", ("non_vpn", "vpn"), packages=("vsftpd", "lftp"))


def serve(server: Host, lab: Lab) -> None:
    certificate, key = lab.certificate(server)
    upload = server.folder / "upload"
    upload.mkdir(exist_ok=True)
    upload.chmod(0o777)
    (server.folder / "empty").mkdir(exist_ok=True)
    implicit = server.rng.random() < 0.3
    server.implicit = implicit
    low = server.rng.randrange(30000, 50000)
    (server.folder / "vsftpd.conf").write_text(
        f"listen=YES\nlisten_address={server.address}\nlisten_port={server.port(0)}\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={lab.media}/files\nno_anon_password=YES\n"
        f"allow_anon_ssl=YES\nssl_enable=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\nimplicit_ssl={'YES' if implicit else 'NO'}\nrsa_cert_file={certificate}\nrsa_private_key_file={key}\nssl_tlsv1=NO\n"
        f"require_ssl_reuse=NO\nssl_ciphers=HIGH\npasv_enable=YES\npasv_min_port={low}\npasv_max_port={low + 2000}\nsecure_chroot_dir={server.folder}/empty\nftp_username=nobody\nseccomp_sandbox=NO\nxferlog_enable=NO\n"
    )
    server.spawn(["/usr/sbin/vsftpd", server.folder / "vsftpd.conf"], log="vsftpd")
    wait_until(lambda: listening(server, server.port(0)), what="vsftpd")


def session(client: Host, server: Host, rng: random.Random, lab: Lab) -> None:
    scheme = "ftps" if server.implicit else "ftp"
    settings = f"set ssl:ca-file {lab.authority}; set ftp:ssl-force true; set ftp:ssl-allow-anonymous true; set ftp:ssl-allow true; set ftp:ssl-protect-data true; set net:max-retries 1; set net:timeout 15; set cmd:fail-exit true; set ftp:list-options ''; set net:connection-limit 2"
    lines = [settings, f"open {scheme}://{server.hostname}:{server.port(0)}"]
    if rng.random() < 0.4:
        lines.append("cls -l > /dev/null")
    for file in ssh.files(lab, rng):
        lines.append(f"get -O {client.folder} -e {file.name}" if rng.random() < 0.8 else f"pget -n 2 -O {client.folder} {file.name}; !rm -f {client.folder}/{file.name}")
    lines.append("bye")
    client.run(["lftp", "--norc", "-c", "; ".join(lines)], env={"HOME": str(client.folder)}, timeout=40)
