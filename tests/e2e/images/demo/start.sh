#!/bin/bash
set -e
exec /usr/bin/supervisord -c /etc/supervisor/supervisord.conf
